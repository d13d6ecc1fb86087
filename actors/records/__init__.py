"""Records of questions as people keep them: JSON, JSON lines, CSV and Parquet, and the names of their fields."""
