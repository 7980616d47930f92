"""The ground floor: errors and files. Imports nothing of the package."""
