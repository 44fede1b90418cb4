"""Door: HTTP. Routes translate and never decide; who may ask is settled before they are reached."""
