"""The pages of the docs' site that are made from the code; `docs/site_hooks.py` asks for them at each build."""
