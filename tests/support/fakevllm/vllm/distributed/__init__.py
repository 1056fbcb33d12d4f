"""The process group of this vLLM: each LLM joins it, as in vLLM before its model is loaded."""

JOINED: list[str] = []


def cleanup_dist_env_and_memory(shutdown_ray: bool = False) -> None:
    JOINED.clear()
