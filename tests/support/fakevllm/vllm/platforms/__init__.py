"""Where this vLLM computes; tests change it. Without a device, `device_type` is empty, as in vLLM."""

from types import SimpleNamespace

current_platform = SimpleNamespace(device_type="cuda")
