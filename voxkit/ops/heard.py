"""What CIF takes for silence; without tensors, for who reads fire times without them."""

HEARD = 0.1  # a frame of less weight holds no token: an unfinished last token does not last through the silence after it
