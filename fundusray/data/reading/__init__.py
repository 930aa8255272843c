"""Tables and folders as publishers ship them: every row checked, faults named by file and line."""
