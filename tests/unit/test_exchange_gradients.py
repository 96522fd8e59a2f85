"""An aesthetic gradient, one vector of a CLIP that others made, is a taste."""

import pytest
import torch
from palate.adapters.errors import EncoderMismatchError, FileFormatError
from palate.adapters.exchange import read_aesthetic_gradient


class Clip:
    identity, name, dim = "e" * 64, "ViT-L-14", 8


@pytest.mark.parametrize("shape", [(8,), (1, 8)])
def test_an_aesthetic_gradient_is_a_taste_for_what_is_near_it(tmp_path, shape):
    torch.save(torch.arange(8.0).reshape(shape), tmp_path / "fantasy.pt")
    taste = read_aesthetic_gradient(tmp_path / "fantasy.pt", Clip, 8)
    direction = torch.arange(8.0) / torch.arange(8.0).norm()
    assert taste.person == "fantasy"
    assert taste.utility(direction[None]) > taste.utility(-direction[None])


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (Evil(), "would run code"),
        ([1, 2], "it holds list"),
        (torch.zeros(8), "nothing but 0"),
        (torch.full((8,), float("nan")), "NaN"),
        (torch.ones(3, 8), r"numbers of shape \(3, 8\)"),
        (torch.ones(8, dtype=torch.long), "it holds Tensor"),
        (torch.ones(1).expand(1, 10**10), "claims 10,000,000,000 numbers"),  # 1.3 KB, and 40 GB to use
        (torch.empty(8, device="meta"), "claims 8 numbers"),
    ],
)
def test_what_is_no_gradient_is_refused_and_never_run(tmp_path, capsys, content, message):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(FileFormatError, match=message):
        read_aesthetic_gradient(tmp_path / "x.pt", Clip, 8)
    assert "code ran" not in capsys.readouterr().out


def test_another_width_names_the_encoder_that_would_fit(tmp_path):
    torch.save(torch.ones(5), tmp_path / "x.pt")
    with pytest.raises(EncoderMismatchError, match=r"has 5 numbers, ViT-L-14 has 8; .*open_clip:ViT-L-14/openai"):
        read_aesthetic_gradient(tmp_path / "x.pt", Clip, 8)
