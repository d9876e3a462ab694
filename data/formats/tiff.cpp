// TIFF files through libtiff. Of several pictures, the first.
//
// Samples of 8 and 16 bits that are grey, RGB or CMYK are read as they are, because libtiff's own
// conversion would multiply colours by alpha and round otherwise than Pillow. All the rest
// (palettes, fewer bits, YCbCr) libtiff converts, as it does for Pillow.
#include <tiffio.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <memory>
#include <string>

#include "data/formats/formats.h"
#include "data/formats/inks.h"
#include "tensor/error.h"

namespace vitrine {
namespace {

/// A file in memory as libtiff's callbacks see it. They must not throw: C functions call them.
struct Input {
  Bytes file;
  toff_t position = 0;
  char message[256] = "";   // libtiff's first error
  bool lacks_data = false;  // a tag lies behind the end of the file
};

tmsize_t read_from(thandle_t handle, void* bytes, tmsize_t count) {
  auto& input = *static_cast<Input*>(handle);
  const toff_t size = input.file.size();
  if (count <= 0 || input.position >= size) return 0;
  const auto taken = static_cast<std::size_t>(std::min(static_cast<toff_t>(count), size - input.position));
  std::memcpy(bytes, input.file.data() + input.position, taken);
  input.position += taken;
  return static_cast<tmsize_t>(taken);
}

tmsize_t write_nothing(thandle_t, void*, tmsize_t) { return 0; }

toff_t seek_in(thandle_t handle, toff_t offset, int whence) {
  auto& input = *static_cast<Input*>(handle);
  const toff_t base = whence == SEEK_CUR ? input.position : whence == SEEK_END ? input.file.size() : 0;
  return input.position = base + offset;
}

int close_nothing(thandle_t) { return 0; }
toff_t size_of(thandle_t handle) { return static_cast<Input*>(handle)->file.size(); }

int keep_message(TIFF*, void* handle, const char*, const char* format, va_list arguments) {
  auto& input = *static_cast<Input*>(handle);
  if (input.message[0] == '\0') std::vsnprintf(input.message, sizeof input.message, format, arguments);
  return 1;  // nothing is printed
}

/// Warnings are ignored but for those of tags that lie behind the end of the file: without its
/// palette libtiff would take indices for greys.
int note_missing_data(TIFF* tiff, void* handle, const char* module, const char* format, va_list arguments) {
  auto& input = *static_cast<Input*>(handle);
  if (std::strncmp(format, "IO error", 8) != 0) return 1;
  input.lacks_data = true;
  return keep_message(tiff, handle, module, format, arguments);
}

struct FreeTiff {
  void operator()(TIFF* tiff) const { TIFFClose(tiff); }
  void operator()(TIFFOpenOptions* options) const { TIFFOpenOptionsFree(options); }
};
using TiffFile = std::unique_ptr<TIFF, FreeTiff>;

TiffFile open_tiff(Input& input) {
  const std::unique_ptr<TIFFOpenOptions, FreeTiff> options(TIFFOpenOptionsAlloc());
  TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), 8 * max_image_pixels);
  TIFFOpenOptionsSetErrorHandlerExtR(options.get(), keep_message, &input);
  TIFFOpenOptionsSetWarningHandlerExtR(options.get(), note_missing_data, &input);
  return TiffFile(TIFFClientOpenExt("", "rm", &input, read_from, write_nothing, seek_in, close_nothing, size_of,
                                    nullptr, nullptr, options.get()));
}

/// What the file says of its first picture.
struct Layout {
  std::uint32_t width = 0, height = 0;
  std::uint16_t bits = 1, samples = 1, photometric = 0, planar = 0, sample_format = 0, orientation = 0;
  bool alpha_is_multiplied = false;  // colours were multiplied by alpha

  explicit Layout(TIFF* tiff) {
    TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &width);
    TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &height);
    TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &photometric);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &bits);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &samples);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &planar);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &sample_format);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_ORIENTATION, &orientation);
    std::uint16_t count = 0, *extra = nullptr;
    TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &count, &extra);
    alpha_is_multiplied = count > 0 && extra[0] == EXTRASAMPLE_ASSOCALPHA;
  }

  /// The samples that are colours; 0: left to libtiff.
  int colors() const {
    if ((bits != 8 && bits != 16) || sample_format != SAMPLEFORMAT_UINT) return 0;
    if (photometric == PHOTOMETRIC_MINISWHITE || photometric == PHOTOMETRIC_MINISBLACK) return 1;
    return photometric == PHOTOMETRIC_RGB ? 3 : photometric == PHOTOMETRIC_SEPARATED ? 4 : 0;
  }
};

class TiffReader {
 public:
  TiffReader(Bytes file, std::string_view name) : input_{file}, name_(name), tiff_(open_tiff(input_)) {
    VT_CHECK(tiff_ != nullptr && !input_.lacks_data, "{}: bad TIFF header: {}", name_, input_.message);
    input_.message[0] = '\0';  // of tags that libtiff could do without
  }

  Image read() {
    const Layout layout(tiff_.get());
    // Fax codes say a whole row of one colour in a bit.
    check_image_claim(name_, layout.height, layout.width, input_.file.size(),
                      std::numeric_limits<std::uint64_t>::max());
    VT_CHECK(layout.samples >= std::max(layout.colors(), 1) && layout.samples <= 8,
             "{}: bad TIFF header: {} samples for each pixel, expected {} to 8", name_, layout.samples,
             std::max(layout.colors(), 1));
    return oriented(layout.colors() > 0 ? rgb_of(read_samples(layout), layout) : read_converted(layout),
                    layout.orientation);
  }

 private:
  [[noreturn]] void fail() const {
    throw Error(fmt::format("{}: bad TIFF data: {}", name_, input_.message[0] ? input_.message : "incomplete"));
  }

  /// By libtiff, to RGBA; stops at the first error.
  Image read_converted(const Layout& layout) {
    std::vector<std::uint32_t> raster(static_cast<std::size_t>(layout.width) * layout.height);
    if (!TIFFReadRGBAImageOriented(tiff_.get(), layout.width, layout.height, raster.data(), layout.orientation, 1)) {
      fail();
    }
    Image image(static_cast<int>(layout.height), static_cast<int>(layout.width));
    for (std::size_t i = 0; i < raster.size(); ++i) {
      image.pixels[3 * i] = static_cast<std::uint8_t>(TIFFGetR(raster[i]));
      image.pixels[3 * i + 1] = static_cast<std::uint8_t>(TIFFGetG(raster[i]));
      image.pixels[3 * i + 2] = static_cast<std::uint8_t>(TIFFGetB(raster[i]));
    }
    return image;
  }

  /// All samples of every pixel as they are in the file, the upper 8 bits of 16. The file holds
  /// them in blocks, tiles or strips, of all samples together or of each by itself.
  Image read_samples(const Layout& layout) {
    TIFF* tiff = tiff_.get();
    const bool tiled = TIFFIsTiled(tiff) != 0, apart = layout.planar == PLANARCONFIG_SEPARATE && layout.samples > 1;
    std::uint32_t block_width = layout.width, block_height = layout.height;
    if (tiled) {
      TIFFGetField(tiff, TIFFTAG_TILEWIDTH, &block_width);
      TIFFGetField(tiff, TIFFTAG_TILELENGTH, &block_height);
    } else {
      TIFFGetFieldDefaulted(tiff, TIFFTAG_ROWSPERSTRIP, &block_height);
      block_height = std::min(block_height, layout.height);
    }
    check_image_claim(name_, block_height, block_width, input_.file.size(), std::numeric_limits<std::uint64_t>::max());
    const std::size_t bytes = layout.bits / 8, inside = apart ? 1 : layout.samples;  // of a sample; of a block's pixel
    std::vector<std::uint8_t> block(std::size_t{block_width} * block_height * inside * bytes);
    Image image(static_cast<int>(layout.height), static_cast<int>(layout.width), layout.samples);
    for (std::uint16_t plane = 0; plane < (apart ? layout.samples : 1); ++plane) {
      for (std::uint32_t top = 0; top < layout.height; top += block_height) {
        for (std::uint32_t left = 0; left < layout.width; left += block_width) {
          const std::uint32_t rows = std::min(block_height, layout.height - top);
          const std::uint32_t columns = std::min(block_width, layout.width - left);
          const auto wanted =
              static_cast<tmsize_t>(tiled ? block.size() : std::size_t{rows} * block_width * inside * bytes);
          const tmsize_t got =
              tiled ? TIFFReadEncodedTile(tiff, TIFFComputeTile(tiff, left, top, 0, plane), block.data(), wanted)
                    : TIFFReadEncodedStrip(tiff, TIFFComputeStrip(tiff, top, plane), block.data(), wanted);
          if (got != wanted) fail();
          for (std::uint32_t y = 0; y < rows; ++y) {
            const std::uint8_t* row = &block[std::size_t{y} * block_width * inside * bytes];
            std::uint8_t* output = image.at(static_cast<int>(top + y), static_cast<int>(left)) + plane;
            copy_row(row, columns, inside, bytes, output, layout.samples);
          }
        }
      }
    }
    return image;
  }

  /// `count` pixels of `inside` samples each, every pixel `stride` bytes behind the last one.
  static void copy_row(const std::uint8_t* row, std::size_t count, std::size_t inside, std::size_t bytes,
                       std::uint8_t* output, std::size_t stride) {
    for (std::size_t x = 0; x < count; ++x, output += stride) {
      for (std::size_t s = 0; s < inside; ++s, row += bytes) {
        std::uint16_t wide = 0;
        if (bytes == 2) std::memcpy(&wide, row, 2);  // libtiff has brought it into the processor's order
        output[s] = bytes == 2 ? static_cast<std::uint8_t>(wide >> 8) : *row;
      }
    }
  }

  static Image rgb_of(Image samples, const Layout& layout) {
    const int colors = layout.colors();
    Image rgb(samples.height, samples.width);
    const std::size_t count = rgb.pixels.size() / 3, step = layout.samples;
    for (std::size_t i = 0; i < count; ++i) {
      std::uint8_t* from = &samples.pixels[step * i];
      if (layout.alpha_is_multiplied && colors < 4 && colors < layout.samples) divide(from, colors, from[colors]);
      if (layout.photometric == PHOTOMETRIC_MINISWHITE) from[0] = static_cast<std::uint8_t>(255 - from[0]);
      if (colors == 4) {
        rgb_from_inks(from[0], from[1], from[2], from[3], &rgb.pixels[3 * i]);
      } else {
        for (int c = 0; c < 3; ++c) rgb.pixels[3 * i + static_cast<std::size_t>(c)] = from[colors == 3 ? c : 0];
      }
    }
    return rgb;
  }

  /// Undoes the multiplication of colours by alpha; where alpha is 0, all is black.
  static void divide(std::uint8_t* colors, int count, int alpha) {
    for (int c = 0; c < count; ++c) {
      colors[c] = alpha == 0 ? std::uint8_t{0} : static_cast<std::uint8_t>(std::min(255, 255 * colors[c] / alpha));
    }
  }

  /// Turns and mirrors the picture as the tag Orientation says, 1 to 8; other numbers mean nothing.
  static Image oriented(Image image, int orientation) {
    if (orientation < 2 || orientation > 8) return image;
    const bool transposed = orientation >= 5;
    const bool upside_down = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const bool mirrored = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    Image result(transposed ? image.width : image.height, transposed ? image.height : image.width);
    for (int y = 0; y < result.height; ++y) {
      for (int x = 0; x < result.width; ++x) {
        const int row = transposed ? x : y, column = transposed ? y : x;
        std::memcpy(result.at(y, x),
                    image.at(upside_down ? image.height - 1 - row : row, mirrored ? image.width - 1 - column : column),
                    3);
      }
    }
    return result;
  }

  Input input_;
  std::string_view name_;
  TiffFile tiff_;
};

}  // namespace

Image decode_tiff(Bytes file, std::string_view name) { return TiffReader(file, name).read(); }

}  // namespace vitrine
