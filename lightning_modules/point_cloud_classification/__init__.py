"""Classification of point clouds by networks on graphs of nearest neighbours."""
