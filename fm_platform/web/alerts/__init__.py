"""The alerts page: what is wrong, why, what it costs, what would repair it, and did it help."""
