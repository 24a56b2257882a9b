"""The staged plant: generated scenes with exact truth, served over real RTSP."""
