"""The parts of scripts/gpu-check, which imports them from the archive that scripts/gpu-bundle packs."""
