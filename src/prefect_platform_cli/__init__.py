"""What runs on a laptop or in a pipeline: cluster, images, charts, deploy and doctor."""
