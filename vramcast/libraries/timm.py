"""timm's pretrained models without their weights, and its folders of images without the images."""

import io
import os
from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.libraries.example_data import COUNT, NotHere, picture
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Let timm create pretrained models without the hub: the library itself knows all shapes.

    Where a folder of images is not here, the example stands in for them.
    """

    def folders(module: ModuleType) -> None:
        create = module.create_reader

        def create_reader(name, root=None, *args, **options):
            if "/" in name or os.path.exists(root):
                return create(name, root, *args, **options)
            return _Images(root, context)

        module.create_reader = create_reader

    when_imported("timm.models._builder", _builder)
    when_imported("timm.models._factory", _factory)
    when_imported("timm.data.dataset", folders)


def _builder(module: ModuleType) -> None:
    module.load_pretrained = lambda model, *args, **options: None


def _factory(module: ModuleType) -> None:
    # by what the hub's repositories of timm are called: timm/ARCHITECTURE.WEIGHTS
    module.load_model_config_from_hf = lambda name, **options: (
        None,
        name.rpartition("/")[2].partition(".")[0],
        {},
    )


class _Images:
    """In the place of timm's reader of a folder: files with the example, of all classes in turn."""

    def __init__(self, root: str, context: Context) -> None:
        example, self.classes = context.options.example, context.options.classes
        if example is None or example.image is None:
            raise NotHere(
                f"there are no images in {root}. To predict without them:  "
                "--example images:3x224x224 --classes 1000"
            )
        self.content = picture(example.image)
        self.class_to_idx = {str(number): number for number in range(self.classes)}
        told = f"{'x'.join(map(str, example.image))}, {COUNT:,} images of {self.classes} classes"
        context.notes.append(f"in the place of the images in {root}: {told}")

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[io.BytesIO, int]:
        return io.BytesIO(self.content), index % self.classes
