"""The latent cache: what it keeps, what it drops, and that threads may share it."""

from concurrent.futures import ThreadPoolExecutor

import torch

from core.latents import Latent, LatentCache, latent_key


def latent(i: int, kilobytes: int = 1) -> Latent:
    return Latent(torch.full((1, kilobytes, 16, 16), float(i)), 40, "m", (str(i), "m", 40))


def test_keys_tell_content_shape_model_and_steps_apart() -> None:
    pixels = torch.rand(1, 3, 8, 8)
    key = latent_key(pixels, "avatars", 40)
    assert key == latent_key(pixels.clone().to(memory_format=torch.channels_last), "avatars", 40)
    changed = pixels.clone()
    changed[0, 0, 0, 0] += 1e-3
    others = [
        latent_key(changed, "avatars", 40),
        latent_key(pixels.view(1, 3, 4, 16), "avatars", 40),
        latent_key(pixels, "other", 40),
        latent_key(pixels, "avatars", 20),
    ]
    assert len({key, *others}) == 5


def test_the_least_recently_used_goes_first() -> None:
    cache = LatentCache(capacity=3 * 1024)
    for i in range(3):
        cache.keep(latent(i))
    cache.get(latent(0).key)
    cache.keep(latent(3))
    assert [cache.get(latent(i).key) is not None for i in range(4)] == [True, False, True, True]
    assert cache.nbytes == 3 * 1024
    cache.keep(latent(4, kilobytes=4))  # larger than the cache: not kept, and nothing lost for it
    assert cache.get(latent(4).key) is None
    assert len(cache) == 3
    cache.keep(latent(5, kilobytes=2))
    assert cache.nbytes <= 3 * 1024


def test_threads_share_it() -> None:
    cache = LatentCache(capacity=20 * 1024)

    def work(i: int) -> None:
        for k in range(300):
            cache.keep(latent((7 * i + k) % 50))
            found = cache.get(latent(k % 50).key)
            assert found is None or found.x_T[0, 0, 0, 0] == k % 50
            assert cache.nbytes <= 20 * 1024

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def test_repeat() -> None:
    two = Latent(torch.arange(2.0).view(2, 1, 1, 1), 40, "m", ("", "m", 40))
    assert two.repeat(3).x_T.flatten().tolist() == [0, 0, 0, 1, 1, 1]
