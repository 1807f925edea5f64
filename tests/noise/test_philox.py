"""Words: Philox4x32-10 against its published vectors, and the stream's keys."""

import hashlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradnoise.noise.gaussian import bernoulli_rows_, stream_key, word_rows
from gradnoise.noise.gaussian.reference import philox

MASK = 0xFFFFFFFF
WORD = st.integers(0, MASK)


def as_int64(value):
    return torch.tensor(value - 2**64 if value >= 2**63 else value)


def philox_in_plain_python(counter, key):
    """Compute what Salmon et al. 2011, section 3.3, define, with Python's integers."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = c0 * 0xD2511F53, c2 * 0xCD9E8D57
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & MASK, p0 >> 32 ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [c0, c1, c2, c3]


def words(counter, key):
    block, t = counter[0] | counter[1] << 32, counter[2] | counter[3] << 32
    return philox(as_int64(block), as_int64(t), as_int64(key[0] | key[1] << 32)).tolist()


# kat_vectors of Random123, philox 4x32 10.
@pytest.mark.parametrize(
    "counter, key, expected",
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([MASK] * 4, [MASK] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_published_vectors(counter, key, expected):
    assert words(counter, key) == expected
    assert philox_in_plain_python(counter, key) == expected


@given(st.tuples(WORD, WORD, WORD, WORD), st.tuples(WORD, WORD))
def test_equals_philox_in_plain_python(counter, key):
    assert words(counter, key) == philox_in_plain_python(counter, key)


def test_element_i_is_word_i_mod_4_of_block_i_div_4():
    expected = [w for block in range(3) for w in words([block, 0, 9, 0], [5, 0])]
    assert word_rows([5], 9, 11).tolist() == [expected[:11]]


@pytest.mark.parametrize(
    "seed, name, key",
    [
        (0, "", 0xCE76445B76758690),
        (0, "weight", 0xF04260CBA073F3EB),
        (1, "layers.0.weight", 0xF031281389428CC0),
        (2**63, "0.0", 0xF2A1BFA0BB7756E9),
        (-1, "σ", 0x9001FA10F7423A7E),
    ],
)
def test_keys_of_version_1_are_frozen(seed, name, key):
    assert stream_key(seed, name) == key


def test_a_key_is_blake2b_of_version_seed_and_name():
    text = "gradnoise.gaussian 1/12/layers.0/weight"
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    assert stream_key(12, "layers.0/weight") == int.from_bytes(digest, "little")


def test_keys_differ_between_seeds_and_between_names():
    keys = {stream_key(seed, name) for seed in range(-3, 200) for name in ("", "0", "0/0", "1/0", "a", "A")}
    assert len(keys) == 203 * 6


@pytest.mark.parametrize("seed", [0.5, "0", None])
def test_a_seed_that_is_no_integer_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be an integer"):
        stream_key(seed, "weight")


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match="name must be a string"):
        stream_key(0, 7)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masks_keep_the_words_below_the_threshold(dtype):
    keep = [0.0, 2.0**-32, 0.3, 0.5, 0.9, 1.0]
    out = torch.full((6, 1003), 7.0, dtype=dtype)
    bernoulli_rows_(out, keys=range(6), t=[4] * 6, keep=keep)
    words = word_rows(range(6), 4, 1003)
    for p, k in enumerate(keep):
        kept = words[p].double() < k * 2.0**32
        assert torch.equal(out[p], kept.to(dtype) * (1 / k if k else 0.0))


def test_masks_keep_the_stated_share():
    keep = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    n = 200_000
    out = torch.empty(3, n)
    bernoulli_rows_(out, keys=[1, 2, 3], t=[0, 0, 0], keep=keep)
    share = (out != 0).double().mean(dim=1)
    # Five standard deviations: a false alarm in 6e-7 of the keys, and these three are fixed.
    assert ((share - keep).abs() < 5 * (keep * (1 - keep) / n).sqrt()).all()


def test_a_keep_rate_out_of_range_is_refused():
    with pytest.raises(ValueError, match=r"keep must be in \[0, 1\], got 1.1"):
        bernoulli_rows_(torch.zeros(1, 4), keys=[1], t=[0], keep=[1.1])
