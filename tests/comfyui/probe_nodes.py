"""Nodes for the tests, copied into the running ComfyUI: they save what they get, or what the pack holds."""

import contextlib
import os
import sys
from pathlib import Path

import torch


class Anything(str):
    """A socket type that every other one fits."""

    def __ne__(self, other):
        return False


class TakesAnything:
    """A node with an input of `Anything`."""

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):  # noqa: N802
        return True


class RunsEachTime:
    """A node whose output is never taken from ComfyUI's cache."""

    @classmethod
    def IS_CHANGED(cls, **_):  # noqa: N802
        return float("nan")


def keep(value, name):
    """Save it where `Host.probe` finds it."""
    torch.save(value, Path(os.environ["PALATE_PROBES"]) / f"{name}.pt")


def of_the_pack(name):
    """A module of the pack, which ComfyUI has loaded under a name of its own."""
    return next(module for key, module in sys.modules.items() if key.endswith(f"palate.{name}"))


class PalateProbe(TakesAnything, RunsEachTime):
    """Saves whatever it gets, so that a test can compare bits: of a MODEL what it answers, of a CLIP its weights."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"value": (Anything("*"),), "name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    def save(self, value, name):
        if hasattr(value, "get_model_object"):  # a MODEL: what it makes of fixed inputs
            draw = torch.Generator().manual_seed(0)
            model = value.get_model_object("diffusion_model").float()
            inputs = torch.randn(2, 4, 16, 16, generator=draw), torch.tensor([20.0, 900.0])
            context = torch.randn(2, 77, 96, generator=draw)
            sigmas = value.get_model_object("model_sampling").sigmas
            value = {"sigmas": sigmas, "x": inputs[0], "timesteps": inputs[1], "context": context}
            value["out"] = model(*inputs, context=context)
        elif hasattr(value, "cond_stage_model"):
            value = {k: v.clone() for k, v in value.cond_stage_model.state_dict().items() if "text_projection" not in k}
        elif isinstance(value, list) and value and isinstance(value[0], list):
            value = [[cond, {k: v for k, v in rest.items() if torch.is_tensor(v)}] for cond, rest in value]
        keep(value, name)
        return ()


class PalateProbeLora:
    """A change of the text encoder's weights, patched in as a LoRA is."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"clip": ("CLIP",)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "patch", "test"

    def patch(self, clip):
        clip = clip.clone()
        key = "clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.weight"
        weight = clip.cond_stage_model.state_dict()[key]
        generator = torch.Generator().manual_seed(1)
        clip.add_patches({key: (0.3 * torch.randn(weight.shape, generator=generator),)}, 1.0)
        return (clip,)


class PalateProbeTowers:
    """What the pack's own copies of a CLIP's text encoders make of a text, beside the host."""

    INPUT_TYPES = classmethod(
        lambda cls: {"required": {"clip": ("CLIP",), "text": ("STRING", {}), "name": ("STRING", {})}}
    )
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    def save(self, clip, text, name):
        pack = of_the_pack("nodes.host_text")
        found = {}
        for tower_name, tower in pack.text_towers(clip).items():
            ids = tower.tokenize(text)
            states = tower.model(ids)
            pooled = states.pooler_output
            found[tower_name] = {
                "tokens": states.hidden_states[-1 - tower.clip_skip] if tower.clip_skip else states.last_hidden_state,
                "pooled": pooled if tower.projection is None else pooled @ tower.projection.T,
                "normed": torch.tensor(tower.norm_skipped),
                "can move": torch.tensor(not any(weight.is_inference() for weight in tower.model.parameters())),
            }
        keep(found, name)
        return ()


class PalateProbeKept(TakesAnything):
    """How many steered texts are kept, once `after` is there."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"after": (Anything("*"),), "name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    def save(self, after, name):
        pack = of_the_pack("nodes.steered_clip")
        keep(len(pack.KEPT), name)
        return ()


class PalateProbeMemory:
    """Has the pack believe that so much memory is free; 0 is the truth again."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"gigabytes": ("FLOAT", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "pretend", True, "test"
    truth = None

    def pretend(self, gigabytes):
        room = of_the_pack("nodes.room")
        PalateProbeMemory.truth = PalateProbeMemory.truth or room.free_memory
        room.free_memory = (lambda device: gigabytes * 1e9) if gigabytes else PalateProbeMemory.truth
        return ()


class PalateProbeImages:
    """Images that cost no sampling: smooth colours, another picture for each place and variant."""

    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {
                "count": ("INT", {"default": 4, "min": 1, "max": 64}),
                "variant": ("INT", {"default": 0}),
                "width": ("INT", {"default": 128, "max": 2048}),
                "height": ("INT", {"default": 128, "max": 2048}),
            }
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "draw", "test"

    def draw(self, count, variant, width, height):
        noise = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(variant))
        smooth = torch.nn.functional.interpolate(noise, size=(height, width), mode="bicubic").clamp(0, 1)
        return (smooth.movedim(1, -1),)


class PalateProbeReadOnly(RunsEachTime):
    """Has the pack's store behave as on a read-only disk, or as on a sound one again."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"on": ("BOOLEAN", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "switch", True, "test"
    truth = None

    def switch(self, on):
        database = of_the_pack("adapters.comparisons.database").Database
        truth = PalateProbeReadOnly.truth = PalateProbeReadOnly.truth or database.write

        @contextlib.contextmanager
        def refused(self):
            with self.read() as connection:
                connection.execute("PRAGMA query_only = ON")
                try:
                    with truth(self) as connection:
                        yield connection
                finally:
                    connection.execute("PRAGMA query_only = OFF")

        database.write = refused if on else truth
        return ()


class PalateProbeModels(TakesAnything, RunsEachTime):
    """Which modules and models this process has, once `after` is there."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"after": (Anything("*"),), "name": ("STRING", {})}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "save", True, "test"

    def save(self, after, name):
        import comfy.model_management as management

        loaded = [type(one.model.model).__name__ for one in management.current_loaded_models if one.model is not None]
        found = {"modules": sorted({key.split(".")[0] for key in sys.modules}), "loaded": loaded}
        keep(found, name)
        return ()


class PalateProbeComparer:
    """Shows an image and its negative over each other, as comparers of images do: under names of their own."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"image": ("IMAGE",)}})
    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), "show", True, "test"

    def show(self, image):
        from nodes import PreviewImage

        shown = {
            side: PreviewImage().save_images(one)["ui"]["images"] for side, one in (("a", image), ("b", 1 - image))
        }
        return {"ui": {f"{side}_images": images for side, images in shown.items()}}


NODE_CLASS_MAPPINGS = {
    "PalateProbeComparer": PalateProbeComparer,
    "PalateProbeReadOnly": PalateProbeReadOnly,
    "PalateProbeModels": PalateProbeModels,
    "PalateProbeImages": PalateProbeImages,
    "PalateProbeMemory": PalateProbeMemory,
    "PalateProbeKept": PalateProbeKept,
    "PalateProbe": PalateProbe,
    "PalateProbeLora": PalateProbeLora,
    "PalateProbeTowers": PalateProbeTowers,
}
