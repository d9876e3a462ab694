"""What scripts/gpu-check and scripts/gpu-merge are made of: the plan, the report, and the parts that measure."""
