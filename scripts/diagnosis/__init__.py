"""What `balance doctor` looks at, one module a subject: settings, the app's documents, what was deployed, the project."""
