"""Data and experiments between machines: an S3 server, clones of several people, shared caches, two runs at once."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from helpers.clones import STAGES, TINY, clone, commit, dvc, dvc_environment, set_params, stages_run
from helpers.remotes import BUCKET, NOBODY, add_remote, landseg, site_without, variables
from helpers.repository import git
from helpers.s3_server import S3Server
from ruamel.yaml import YAML

from landseg.maps.class_map import open_class_map
from landseg.predict.model_file import hash_file

pytestmark = pytest.mark.slow


@dataclass
class Team:
    """A project in a bare git repository, with its data on an S3 server."""

    server: S3Server
    #: Credentials of a user who may do everything.
    owner: Mapping[str, str]
    folder: Path
    clones: list[Path] = field(default_factory=list)

    @property
    def git_remote(self) -> str:
        return str(self.folder / "origin.git")

    def join(self, branch: str = "main") -> Path:
        """Return a new clone, whose cache is empty."""
        project = self.folder / f"clone-{len(self.clones)}"
        git("clone", "-q", "--branch", branch, self.git_remote, str(project))
        self.clones.append(project)
        return project

    def dvc(self, project: Path, *arguments: str, fails: bool = False) -> str:
        return dvc(project, *arguments, variables=variables(self.owner), fails=fails)

    def start(self, project: Path, *arguments: str) -> "subprocess.Popen[str]":
        """Start DVC, and go on at once."""
        return subprocess.Popen(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=project,
            env=dvc_environment(project, variables(self.owner)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """A project that its first member has run and pushed."""
    folder = tmp_path_factory.mktemp("team")
    first = clone(folder / "first")
    set_params(first, TINY)
    with S3Server(authenticates=True) as server:
        server.put(BUCKET, "other", b"")
        team = Team(server, server.user("owner", "s3:*"), folder)
        add_remote(first, server.endpoint)
        assert stages_run(team.dvc(first, "repro")) == STAGES
        commit(first)
        team.dvc(first, "push")
        git("-C", str(first), "branch", "-M", "main")
        git("clone", "-q", "--bare", str(first), team.git_remote)
        yield team


def clean(project: Path) -> bool:
    """Whether no tracked file differs from the last commit."""
    return not git("-C", str(project), "status", "--short")


def test_second_clone_runs_nothing(team: Team) -> None:
    project = team.join()
    team.dvc(project, "pull")
    assert stages_run(team.dvc(project, "repro")) == []
    assert clean(project)
    assert list((project / "data/raw/sample/images").glob("*.tif"))


def test_evaluate_fetches_only_what_it_needs(team: Team) -> None:
    project = team.join()
    set_params(project, {"evaluate.n_examples": 3})
    team.server.requests.clear()
    assert stages_run(team.dvc(project, "repro", "--pull", "--allow-missing", "evaluate")) == ["evaluate"]
    stage = YAML(typ="safe").load(project / "dvc.lock")["stages"]["evaluate"]
    needed = {dep["md5"] for dep in stage["deps"] if dep["path"].startswith(("data/", "models/"))}
    for listed in [name for name in needed if name.endswith(".dir")]:
        tree = json.loads((project / ".dvc/cache/files/md5" / listed[:2] / listed[2:]).read_text())
        needed |= {entry["md5"] for entry in tree}
    fetched = {key.removeprefix("project/files/md5/").replace("/", "") for key in team.server.fetched(BUCKET)}
    assert fetched - {""} == needed
    assert not (project / "data/raw").exists()


@pytest.fixture(scope="module")
def pair(team: Team) -> Mapping[str, Path]:
    """Two clones with one cache, that ran the pipeline at the same time with other seeds."""
    projects = {f"seed{seed}": team.join() for seed in (1, 2)}
    running = []
    for seed, (branch, project) in enumerate(projects.items(), 1):
        git("-C", str(project), "checkout", "-q", "-b", branch)
        dvc(project, "config", "cache.dir", str(team.folder / "cache"))
        dvc(project, "config", "cache.shared", "group")
        team.dvc(project, "pull")
        set_params(project, {"train.seed": seed})
        running.append(team.start(project, "repro"))
    for process in running:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output
        assert stages_run(output) == ["train", "evaluate", "report"]
    for project in projects.values():
        commit(project)
    return projects


def test_two_clones_share_a_cache(team: Team, pair: Mapping[str, Path]) -> None:
    models = {hash_file(project / "models/sample/model.safetensors") for project in pair.values()}
    assert len(models) == 2
    for project in pair.values():
        assert not (project / ".dvc/cache").exists()
        assert stages_run(team.dvc(project, "repro")) == []
        assert clean(project)


def test_two_people_push_at_once(team: Team, pair: Mapping[str, Path]) -> None:
    pushes = [team.start(project, "push") for project in pair.values()]
    for process in pushes:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    for branch, project in pair.items():
        git("-C", str(project), "push", "-q", "origin", branch)
        dvc(project, "config", "--unset", "cache.dir")
        third = team.join(branch)
        dvc(third, "cache", "dir", "--local", str(third / ".dvc/cache"))  # not the one that the pair shares
        team.dvc(third, "pull")
        assert stages_run(team.dvc(third, "repro")) == []
        model = "models/sample/model.safetensors"
        assert hash_file(third / model) == hash_file(project / model)


def test_an_experiment_of_another_person(team: Team) -> None:
    mine, other = team.join(), team.join()
    team.dvc(mine, "pull")
    team.dvc(mine, "exp", "run", "--temp", "--name", "tried", "-S", "evaluate.n_examples=4")
    team.dvc(mine, "exp", "push", "origin", "tried")
    assert "tried" in dvc(other, "exp", "list", "-A", "origin")
    dvc(other, "exp", "pull", "--no-cache", "origin", "tried")
    assert "tried" in dvc(other, "exp", "list", "-A")
    team.server.requests.clear()
    scene = next((mine / "data/raw/sample/images").glob("*.tif"))
    done = landseg(
        other, "predict", str(scene), "--model", "tried", "--out", str(team.folder / "maps"), credentials=team.owner
    )
    assert done.returncode == 0, done.stderr
    [reference] = git("-C", str(mine), "for-each-ref", "--format=%(objectname)", "refs/exps/*/*/tried").split()
    with open_class_map(team.folder / "maps" / scene.name) as found:
        assert found.tags["LANDSEG_REVISION"] == reference
    assert len(team.server.fetched(BUCKET)) == 1


@pytest.mark.faults
def test_two_runs_in_one_checkout(team: Team) -> None:
    project = team.join()
    team.dvc(project, "pull")
    set_params(project, {"train.seed": 3})
    first = team.start(project, "repro")
    assert first.stdout is not None
    before = [next(line for line in first.stdout if "Running stage" in line)]
    time.sleep(1)  # the stage itself runs now
    refused = team.dvc(project, "repro", fails=True)
    assert "is busy, it is being blocked by:" in refused
    assert f"(PID {first.pid}): " in refused
    after, _ = first.communicate(timeout=300)
    assert first.returncode == 0, after
    assert stages_run("".join([*before, after])) == ["train", "evaluate", "report"]
    assert stages_run(team.dvc(project, "repro")) == []


@pytest.mark.faults
@pytest.mark.parametrize("command", ["push", "pull"])
def test_credentials(team: Team, command: str) -> None:
    """These are DVC's own messages."""
    project = team.join()
    (project / "new").write_text("new")
    dvc(project, "add", "new")
    unknown = {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN", "AWS_SECRET_ACCESS_KEY": "secret"}
    for credentials, reason in (
        (NOBODY, "Unable to locate credentials"),
        (unknown, "Forbidden"),
    ):
        failed = dvc(project, command, variables=variables(credentials), fails=True)
        assert reason in failed.splitlines()[0]
        assert "Traceback" not in failed


@pytest.mark.faults
def test_remote_without_its_package(team: Team) -> None:
    """A run does not need the remote."""
    project = team.join()
    packages = site_without("dvc_s3", team.folder / "packages")
    environment = {**dvc_environment(project, variables(team.owner)), "PYTHONPATH": str(packages)}
    command = [sys.executable, "-S", "-m", "dvc"]
    pushed = subprocess.run([*command, "push"], cwd=project, env=environment, capture_output=True, text=True)
    assert pushed.returncode
    assert "s3 is supported, but requires 'dvc-s3' to be installed" in pushed.stderr
    assert "Traceback" not in pushed.stderr
    planned = [*command, "repro", "--dry", "--allow-missing"]
    done = subprocess.run(planned, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
