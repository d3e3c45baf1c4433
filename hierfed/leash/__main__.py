"""`python -m hierfed.leash`; see hierfed.leash."""

from hierfed.leash import run_leashed

run_leashed()
