"""The console: pages for people, on the same stories as the API and the command line."""
