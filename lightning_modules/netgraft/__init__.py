"""NetGraft: a student grown inside its teacher from few unlabelled images (Shen et al., AAAI 2021)."""
