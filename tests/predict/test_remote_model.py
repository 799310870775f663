"""The model of a revision whose files are in an S3 remote only: real servers, real processes."""

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from helpers.clones import dvc
from helpers.remotes import BUCKET, NOBODY, URL, add_remote, landseg, site_without, variables
from helpers.repository import git
from helpers.s3_server import S3Server
from helpers.servers import Stall
from helpers.tiles import PATHS

from landseg.maps.class_map import open_class_map
from landseg.predict.model_file import hash_file

pytestmark = pytest.mark.slow


@dataclass
class Shared:
    """A project whose files have been pushed, and exist nowhere else."""

    server: S3Server
    project: Path
    #: Key of the model in the bucket.
    key: str
    #: Credentials of a user who may do everything.
    owner: Mapping[str, str]

    def predict(
        self, credentials: Mapping[str, str] | None = None, without: Path | None = None
    ) -> CompletedProcess[str]:
        arguments = ["predict", "../scene.tif", "--model", "HEAD", "--out", "../maps", "--device", "cpu"]
        chosen = self.owner if credentials is None else credentials
        return landseg(self.project, *arguments, credentials=chosen, without=without)

    def assert_refused(
        self, reason: str, credentials: Mapping[str, str] | None = None, without: Path | None = None
    ) -> None:
        """Assert that mapping ends with one sentence, of which this is a pattern, and writes nothing."""
        done = self.predict(credentials, without)
        assert done.returncode == 1
        pattern = rf"error: {PATHS.scored_model} of \w{{7}}: not in DVC's cache, and {reason}\n"
        assert re.fullmatch(pattern, done.stderr), done.stderr
        assert not (self.project.parent / "maps/scene.tif").exists()


@pytest.fixture
def shared(folder: Path) -> Iterator[Shared]:
    project = folder / "project"
    model = project / PATHS.scored_model
    model.parent.mkdir(parents=True)
    shutil.copy(folder / "model.safetensors", model)
    (project / "raw").mkdir()
    (project / "raw/scene.tif").write_bytes(bytes(1000))
    (project / "params.yaml").write_text("dataset: {name: tiny}\nevaluate: {weights: last}\n")
    git("init", "-q", str(project))
    dvc(project, "init", "-q")
    dvc(project, "add", str(PATHS.scored_model), "raw")
    digest = hash_file(model, "md5")
    with S3Server(authenticates=True) as server:
        server.put(BUCKET, "other", b"")
        owner = server.user("owner", "s3:*")
        add_remote(project, server.endpoint)
        dvc(project, "push", variables=variables(owner))
        shutil.rmtree(project / ".dvc/cache")
        model.unlink()
        server.requests.clear()
        yield Shared(server, project, f"project/files/md5/{digest[:2]}/{digest[2:]}", owner)


def test_this_model_alone_is_fetched(shared: Shared) -> None:
    done = shared.predict()
    assert done.returncode == 0, done.stderr
    with open_class_map(shared.project.parent / "maps/scene.tif") as found:
        assert found.tags["LANDSEG_REVISION"] == git("-C", str(shared.project), "rev-parse", "HEAD")
    assert shared.server.fetched(BUCKET) == [shared.key]
    assert not git("-C", str(shared.project), "status", "--short")


@pytest.mark.faults
def test_model_that_was_not_pushed(shared: Shared) -> None:
    shared.server.remove(BUCKET, shared.key)
    shared.assert_refused(
        rf"the remote {URL} does not have it; run `dvc push` where it was made, or `dvc repro` on that revision"
    )


@pytest.mark.faults
def test_project_without_a_remote(shared: Shared) -> None:
    dvc(shared.project, "remote", "default", "--unset")
    shared.assert_refused(
        r"there is no default remote; add one \(`dvc remote add -d`\), or run `dvc repro` on that revision"
    )


@pytest.mark.faults
def test_missing_credentials(shared: Shared) -> None:
    shared.assert_refused(
        rf"the remote {URL} needs credentials \(Unable to locate credentials\); set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY, or use `dvc remote modify --local`",
        NOBODY,
    )


@pytest.mark.faults
@pytest.mark.parametrize("fault", ["unknown key", "wrong secret", "no right to read"])
def test_refused_credentials(shared: Shared, fault: str) -> None:
    credentials = {
        "unknown key": {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN", "AWS_SECRET_ACCESS_KEY": "secret"},
        "wrong secret": {**shared.owner, "AWS_SECRET_ACCESS_KEY": "secret"},
        "no right to read": shared.server.user("other", "s3:ListBucket"),
    }
    shared.assert_refused(
        rf"the remote {URL} refuses the credentials \(.*\); correct them, or ask its owner for access",
        credentials[fault],
    )


@pytest.mark.faults
def test_remote_that_does_not_answer(shared: Shared) -> None:
    dvc(shared.project, "remote", "modify", "storage", "endpointurl", "http://127.0.0.1:9")
    shared.assert_refused(
        rf'the remote {URL} cannot be read \(Could not connect to the endpoint URL: "http://127.0.0.1:9/.*"\); '
        "check its settings in .dvc/config and the network"
    )


@pytest.mark.faults
@pytest.mark.parametrize("after", [0, 1000])
def test_remote_that_stops_in_the_middle(shared: Shared, after: int) -> None:
    dvc(shared.project, "remote", "modify", "storage", "read_timeout", "1")
    shared.server.faults(BUCKET, shared.key, [None, None, *[Stall(after)] * 40])  # HEAD is answered
    shared.assert_refused(
        rf"the remote {URL} cannot be read \(timeout\); check its settings in .dvc/config and the network"
    )


@pytest.mark.faults
def test_s3_without_its_package(shared: Shared) -> None:
    packages = site_without("dvc_s3", shared.project.parent / "packages")
    shared.assert_refused(
        rf"the remote {URL} needs a package that is not installed \(s3 is supported, but requires 'dvc-s3' to be "
        r"installed\); for S3, install landseg\[s3\]",
        without=packages,
    )
    dvc(shared.project, "pull", str(PATHS.scored_model), variables=variables(shared.owner))
    assert shared.predict(without=packages).returncode == 0  # the cache has it now
