"""The process group of this vLLM, which is none."""


def cleanup_dist_env_and_memory(shutdown_ray: bool = False) -> None:
    """Nothing to do."""
