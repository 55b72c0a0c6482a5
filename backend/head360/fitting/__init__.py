"""From photographs to heads: landmarks, shape, hair, texture; and from videos to data sets."""
