"""Builds a bundle from source: Kubernetes, Minikube and what runs on them, where no image registry is reachable."""
