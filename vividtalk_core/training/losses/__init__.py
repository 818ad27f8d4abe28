"""Loss terms, by the names of the paper and the field."""
