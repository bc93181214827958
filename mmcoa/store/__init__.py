"""Results on disk: one atomic record a finished cell while a study runs, and the packed tables that git keeps."""
