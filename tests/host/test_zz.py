import os
def test_dies(): os._exit(3)
def test_after(): pass
