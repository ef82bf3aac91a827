"""The tests: `make check` runs the quick ones, `make test` all. Which module tests what:

The scripts
    ladder, training, ranks, lora           what they are, and what they compute
    report, downloads, batches, failures    what they share, and what goes wrong
    rehearse, stand_ins, intercepted, strangers, pretrain    the rehearsal
The tool
    predict_ladder, predict_training, predict_models, predict_ranks    its figures
    evidence                                what others measured, and the margins of that
    verdict                                 what fits, the largest batch, cost and advice, by hand
    predict_files, predict_missing          files that a script writes, programs, what is not here
    written_files                           the former as the script sees them, without PyTorch
    predict_command, predict_options, predict_data, predict_ends       what it is asked, and answers
    predict_loops, growth                   memory that comes late, or grows
    json, skill                             its answers for programs, and for assistants
    notebook                                its answers in notebooks
    what_if                                 techniques applied from outside, and other comparisons
    timeline, snapshot, cost, cost_rules    a look into one step
    log, tracker, gpu, composites, allocator, allocator_settings, order, pinned    its parts
    spread                                  what ranks share: inputs, statistics, tensors
    kinds                                   kinds of tensors and optimizers
    torch_cuda                              `torch.cuda`, as a script finds it
    devices, data_parallel                  several GPUs in one process, and buckets of gradients
    numbers, ranges, sequences              numbers that are known, and sizes that they decide
    gpus, cudnn_devices                     the kinds of GPUs that it knows
    cudnn                                   convolutions
    compiled                                what torch.compile makes of a script
    messages, sandbox, endings, entry, pool        processes: what they may do, and how they end
    rooms, versions                         what may import what
What is made of both
    ladder_commands, results, combining, examples, on_gpu, mutants    commands, experiments
    real_steps                              public scripts without a GPU
    repository, pictures, website, escaping    pages and the site
    packaging, action                       what pip and GitHub read
    fingerprints                            what has to be made anew

What they use: conftest (fixtures, and which tests run in one process), helpers (processes, and how
long they are waited for), warm (commands in processes forked from one that has imported PyTorch),
rows_anew (results made anew if they have changed), scripts (parts of small scripts), and probes/,
programs that tests run.
"""
