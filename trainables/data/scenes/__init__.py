"""The embedded data set: street-like scenes with known difficulty, drawn into the cache at first use."""

from trainables.data.scenes.dataset import Scenes, scenes
from trainables.data.scenes.draw import Scene, draw_scene
from trainables.data.scenes.spec import Camera, Light, SceneObject, SceneSpec, Street, scene_spec

__all__ = [
    "Camera",
    "Light",
    "Scene",
    "SceneObject",
    "SceneSpec",
    "Scenes",
    "Street",
    "draw_scene",
    "scene_spec",
    "scenes",
]
