"""floe: post-trains language models to write SQL by running the SQL."""
