"""The checks before a run, a finding each with its remedy; `floe doctor` prints them."""
