"""What is reported: queries on usage_api. Prints nothing."""
