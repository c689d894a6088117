"""The Graph IR: typed operators over values in single assignment form."""
