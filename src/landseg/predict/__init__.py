"""From a trained model to maps of whole scenes, whatever their size."""
