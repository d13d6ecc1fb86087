"""Long runs that are disturbed on purpose, or watched for what grows."""
