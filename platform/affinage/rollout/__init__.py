"""The pods that Affinage runs as: what would change, made so by Helm, watched, and taken back.

Called by `affinage rollout`. `changes` compares manifests and touches nothing; `helm` and `kubernetes` are the two outside
systems; `operate` joins them. Which adapter is on which pod is not decided here but in `residency`.
"""
