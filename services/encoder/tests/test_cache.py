import numpy as np

from mirage_encoder.embedder import VectorCache


def vector(value: float) -> np.ndarray:
    return np.full(4, value, dtype=np.float32)


def test_what_was_put_is_found_again() -> None:
    cache: VectorCache[tuple[int, ...]] = VectorCache(2)
    cache.put((1, 2), vector(1))
    found = cache.get((1, 2))
    assert found is not None
    assert np.array_equal(found, vector(1))
    assert cache.get((2, 1)) is None


def test_the_least_recently_used_goes_first() -> None:
    cache: VectorCache[tuple[int, ...]] = VectorCache(2)
    cache.put((1,), vector(1))
    cache.put((2,), vector(2))
    cache.get((1,))
    cache.put((3,), vector(3))
    assert cache.get((2,)) is None
    assert cache.get((1,)) is not None
    assert len(cache) == 2


def test_what_is_kept_does_not_change_with_its_source() -> None:
    cache: VectorCache[tuple[int, ...]] = VectorCache(1)
    source = vector(1)
    cache.put((1,), source)
    source[:] = 9
    found = cache.get((1,))
    assert found is not None
    assert found[0] == 1
    assert not found.flags.writeable


def test_without_entries_nothing_is_kept() -> None:
    cache: VectorCache[tuple[int, ...]] = VectorCache(0)
    cache.put((1,), vector(1))
    assert len(cache) == 0
