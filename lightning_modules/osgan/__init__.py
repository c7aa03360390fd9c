"""Generative adversarial networks trained in one stage (Shen et al., CVPR 2021), and their controls."""
