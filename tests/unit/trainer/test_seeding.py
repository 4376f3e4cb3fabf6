import torch

from edit_r1.trainer.machine.seeding import derived_seed, generator


def test_equal_purposes_draw_equal_noise_and_different_ones_do_not():
    def draw(*key):
        return tuple(torch.randn(3, generator=generator(*key)).tolist())

    keys = [(0, "rollout", 1, 2, 3), (1, "rollout", 1, 2, 3), (0, "update", 1, 2, 3), (0, "rollout", 1, 23), (0, "a")]
    assert draw(*keys[0]) == draw(*keys[0])
    assert len({draw(*key) for key in keys}) == len(keys)


def test_seeds_are_the_same_on_every_machine():
    assert derived_seed(0, "rollout", 1, 2) == 5550029046353786258
