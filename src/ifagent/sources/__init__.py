"""Sources of intent: what should be. They know neither each other nor the planner nor the kernel."""
