"""Masks: the keystream of ChaCha20 under a 256-bit key that is used once."""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from hierfed.privacy.secure_sum.ring import Words

KEY_BYTES = 32
# Long enough to make calls cheap, short enough to keep the zeros in a core's cache.
_CHUNK = 1 << 16
# A key makes one mask only, so a constant nonce is safe.
_NONCE = bytes(16)


class MaskStream:
    """Expands keys to masks of one length, in one buffer that every mask reuses."""

    def __init__(self, words: int) -> None:
        self._words = np.empty(words, "<u8")
        self._zeros = bytes(_CHUNK)

    def expand(self, key: bytes) -> Words:
        """The mask of this key: uint64 [words], valid until the next call; RFC 8439, section 2.4."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes, not {KEY_BYTES}")
        cipher = Cipher(ChaCha20(key, _NONCE), mode=None).encryptor()
        target, zeros = self._words.data.cast("B"), memoryview(self._zeros)
        for start in range(0, len(target), _CHUNK):
            part = target[start : start + _CHUNK]
            cipher.update_into(zeros[: len(part)], part)
        return self._words.astype(np.uint64, copy=False)
