"""What somebody may ask of a build who isn't trusted with the host it runs on: a tenant."""

from msgspec import Struct

from stackling.base.config import Image
from stackling.image import download
from stackling.image.builder import recipe as recipes
from stackling.image.builder.recipe import InvalidRecipe, Recipe


class Limits(Struct, frozen=True):
    """Memory of its virtual machines and size of its disk (MiB), time (minutes), and where it has things from."""

    memory_mib: int
    disk_mib: int
    minutes: int
    repositories: frozenset[str]
    media: download.Allowed

    def check(self, recipe: Recipe) -> None:
        """Raises InvalidRecipe naming the field that asks for too much."""
        disk, installer = recipe.disk, recipe.installer
        for number, place in enumerate(recipe.repositories):
            if place.uri.rstrip("/") not in self.repositories:
                known = ", ".join(sorted(self.repositories))
                raise InvalidRecipe(f"repositories[{number}].uri: none of this cloud's, which are {known}")
        for name, asked, most in (
            ("memory_mib", recipe.memory_mib, self.memory_mib),
            ("installer.memory_mib", installer.memory_mib if installer else 0, self.memory_mib),
            ("installer.minutes", installer.minutes if installer else 0, self.minutes),
            ("disk.size_mib", disk.size_mib or 0, self.disk_mib),
            ("disk.spare_mib", disk.spare_mib, self.disk_mib),
        ):
            if asked > most:
                raise InvalidRecipe(f"{name}: {asked} is more than this cloud's {most}")
        if installer is not None:
            try:
                download.check(installer.iso, self.media)
            except download.Refused as e:
                raise InvalidRecipe(f"installer.iso: {e.says}") from None


def configured(image: Image) -> Limits:
    """The limits of the configuration. Repositories are those of the shipped recipes and those that it names."""
    known = {place.uri for recipe in recipes.shipped().values() for place in recipe.repositories}
    known |= {*image.build_mirrors, *image.build_repositories}
    return Limits(
        memory_mib=image.build_memory_mib,
        disk_mib=image.build_disk_gib << 10,
        minutes=image.build_minutes,
        repositories=frozenset(uri.rstrip("/") for uri in known),
        media=download.Allowed(tuple(image.web_download_allow), tuple(image.web_download_ports)),
    )
