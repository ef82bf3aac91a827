"""Programs that tests run in processes of their own: python -m tests.probes.NAME. They print or
save what they saw.

composites    of which others composite operators consist, on CUDA and here
convolutions  convolutions on the GPU without data, and what cuDNN is asked
gpu           a small training on the GPU without data
intercepted   functions that the rehearsal replaces, called in every form
kinds         kinds of tensors and optimizers, with numbers and without
memtracker    the peak that PyTorch's MemTracker sees of a ViT
numbers       sizes that depend on numbers
processes     processes that send, break, sleep and are ended
ranks         one of our scripts, in one or several processes
real_memory   the most that tensors of a script take, counted on the CPU
remembered    operators that are called again and again
sandbox       what a prediction refuses, under one layer of the sandbox alone
torch_cuda    what stands in for torch.cuda, held against the real one
tracker       a small training with shapes, with numbers, and by MemTracker
training      one of our scripts on few images
"""
