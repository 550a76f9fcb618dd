// The rows of the schema table for captions: where they come from, and what becomes of one at each visit of its image.

import { boolean, integer, number, optional, preset, text, words } from './types.ts';

export const captionFiles = {
  folders: preset(
    words('flat', 'kohya'),
    'flat',
    'flat: names of folders mean nothing. kohya: only images in folders such as 5_fox right below count, here five times per epoch.',
    { synonyms: ['folder_style', 'dreambooth_folders'] },
  ),
  caption_extension: preset(text(), '.txt', 'A caption lies beside its image, in a file with this extension.', {
    synonyms: ['caption_ext', 'captions'],
  }),
  caption_missing: preset(
    words('error', 'folder', 'empty'),
    'error',
    'Of an image without a caption, or with an empty one: an error, the words of its folder ("fox" for 5_fox), or no text.',
    { synonyms: ['missing_caption', 'missing_captions'] },
  ),
};

/** In the order in which they act, but for what only says how a caption is cut into tags. */
export const captionsAtVisits = {
  caption_prefix: optional(text(), 'Stands before every caption, and a space behind it.'),
  caption_suffix: optional(text(), 'Stands behind every caption, and a space before it.'),
  caption_dropout_rate: preset(number({ min: 0, max: 1 }), 0, 'How often an image is trained on without its caption.', {
    synonyms: ['caption_dropout', 'cond_dropout', 'unconditional_rate'],
  }),
  caption_dropout_every_n_epochs: preset(
    integer({ min: 0 }),
    0,
    'Every so many epochs there is one without captions: with 3, the third, the sixth and so on. 0: none.',
  ),
  wildcards: preset(
    boolean(),
    false,
    'Pick one line of the caption file each time it is used, and of each {a|b|c} in it one text; {{ and }} are braces.',
    { synonyms: ['enable_wildcard', 'enable_wildcards', 'dynamic_prompts'] },
  ),
  shuffle_caption: preset(boolean(), true, 'Shuffle the comma-separated tags of a caption each time it is used.', {
    synonyms: ['shuffle_captions', 'shuffle_tags', 'tag_shuffle', 'shuffle_tokens'],
  }),
  caption_separator: preset(text(), ',', 'What stands between the tags of a caption.', {
    synonyms: ['tag_separator', 'tag_delimiter'],
  }),
  keep_tokens: preset(
    integer({ min: 0 }),
    0,
    'So many tags at the beginning of a caption stay where they are and are never left out.',
    { synonyms: ['keep_tags', 'keep_n_tokens', 'keep_tags_count'] },
  ),
  keep_tokens_separator: optional(
    text(),
    'In a caption with this mark, the tags before it stay in place, whatever keep_tokens says, and those behind a second one.',
    { synonyms: ['keep_tags_separator'] },
  ),
  token_warmup_step: preset(
    number({ min: 0 }),
    0,
    'Captions begin with token_warmup_min tags and have all of theirs after so many steps. Below 1 it is a share of all steps; 0: all from the start.',
    { synonyms: ['token_warmup_steps', 'token_warmup'] },
  ),
  token_warmup_min: preset(integer({ min: 0 }), 1, 'So many tags, besides those that are kept, a caption begins with.'),
  caption_tag_dropout_rate: preset(number({ min: 0, max: 1 }), 0, 'How often each tag is left out of its caption.', {
    synonyms: ['tag_dropout', 'tag_dropout_rate', 'token_dropout_rate'],
  }),
  secondary_separator: optional(
    text(),
    'Becomes caption_separator in the end, so that what it stands between is moved and left out as one tag.',
    { synonyms: ['secondary_tag_separator'] },
  ),
};
