import torch

from mnemoscope.models.initial import named_weights


def weights(seed: int, name: str) -> torch.Tensor:
    with named_weights(seed, name):
        return torch.nn.Linear(5, 5).weight.detach()


def test_weights_depend_on_seed_and_name_alone() -> None:
    first = weights(3, "reid")
    torch.randn(7)
    assert torch.equal(weights(3, "reid"), first)
    assert not torch.equal(weights(3, "vae"), first)
    assert not torch.equal(weights(4, "reid"), first)


def test_the_global_generator_stays_as_it_was() -> None:
    before = torch.random.get_rng_state()
    weights(0, "reid")
    assert torch.equal(torch.random.get_rng_state(), before)
