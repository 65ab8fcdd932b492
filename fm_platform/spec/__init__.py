"""What a person declares: `ProjectSpec` and its parts, loaded with all mistakes at once."""

from fm_platform.spec.models import ProjectSpec

__all__ = ["ProjectSpec"]
