"""Settings, profiles, and the files by which the parts of a cluster find each other."""
