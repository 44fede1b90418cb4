"""What the doctor looks at: every `Look` of every module here, by being there."""
