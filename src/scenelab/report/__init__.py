"""The writeup: what run folders and studies hold, put together as the handout asks for. Nothing is computed anew."""
