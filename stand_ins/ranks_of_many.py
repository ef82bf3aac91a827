def install(tracker, gpus):
    pass
