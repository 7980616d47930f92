"""What people use today, each as a function that makes one step of the same network."""
