"""Long runs that are hurt on purpose, or watched for what grows."""
